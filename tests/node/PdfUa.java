// Checks the files named against PDF/UA-1 (ISO 14289-1) with veraPDF: a line for each fault, then how many were checked.

import java.io.FileInputStream;
import org.verapdf.gf.foundry.VeraGreenfieldFoundryProvider;
import org.verapdf.pdfa.Foundries;
import org.verapdf.pdfa.PDFAParser;
import org.verapdf.pdfa.PDFAValidator;
import org.verapdf.pdfa.flavours.PDFAFlavour;
import org.verapdf.pdfa.results.TestAssertion;

public class PdfUa {
    public static void main(String[] paths) throws Exception {
        VeraGreenfieldFoundryProvider.initialise();
        for (String path : paths) {
            try (PDFAParser parser = Foundries.defaultInstance().createParser(new FileInputStream(path), PDFAFlavour.PDFUA_1)) {
                PDFAValidator validator = Foundries.defaultInstance().createValidator(PDFAFlavour.PDFUA_1, false);
                for (TestAssertion fault : validator.validate(parser).getTestAssertions()) {
                    System.out.println(path + ": " + fault.getRuleId() + " " + fault.getMessage());
                }
            }
        }
        System.out.println("checked " + paths.length);
    }
}
